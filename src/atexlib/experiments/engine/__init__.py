"""The engine: kinds of result, made once, kept, and fresh or stale. It knows no subject."""
