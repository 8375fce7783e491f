"""The HTTP server: OpenAI's API over the engine, one file per endpoint."""
