"""Evaluation of GPP models: protocol, scores, reports."""
