"""A gRPC client over HTTP/2, on asyncio and trio. Requests and responses are bytes."""
