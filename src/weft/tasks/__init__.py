"""What people do with a model: generate, chat, score; thin, over the engine."""
