"""The explorers of the chapters: drawing only."""
