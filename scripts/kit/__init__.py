"""The teaching kit: what a course needs, made from the sources of the book; ``scripts/build_kit.py`` is its command."""
