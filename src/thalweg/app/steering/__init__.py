"""Steering tools in the browser: sessions hold the work of users, views show it, and tabs connect events to it."""
