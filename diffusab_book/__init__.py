"""What a person touches: figures, explorers, results, chapters, reports and the command line."""
