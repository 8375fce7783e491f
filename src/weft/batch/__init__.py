"""Files of requests to files of results: OpenAI's batch format, or a table with a template."""
