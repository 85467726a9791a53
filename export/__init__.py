"""Networks in, artifacts out: build, convert, check against the eager network, and only then write."""
