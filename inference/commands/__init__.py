"""The commands of `python -m inference`: one module each, with `main(arguments) -> int | None`."""
