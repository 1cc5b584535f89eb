"""Readers of files, folders and xarray objects as datasets with dimensions time, y and x."""
