"""HTTP: this package's endpoints and webhooks beside servers written by hand."""
