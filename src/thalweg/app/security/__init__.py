"""Guards of the app: authentication, host names, requests, values, uploads and messages."""
