"""`thalweg gpp`: gross primary production from embeddings and tower tables."""

import typer

gpp = typer.Typer(no_args_is_help=True, help="Gross primary production from embeddings and flux towers.")
