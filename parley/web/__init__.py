"""HTTP and WebSocket: the FastAPI application."""
