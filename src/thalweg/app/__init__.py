"""The browser interface: `thalweg app`; the extra `app` holds what it needs."""
