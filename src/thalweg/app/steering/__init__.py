"""Steering tools in the browser: sessions hold the work of users, views show it, and tabs connect events to it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
