"""Text to tokens and back, and the chat templates that make texts of conversations."""
