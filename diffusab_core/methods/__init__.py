"""The papers' methods: regularizers, fine-tuning, FreqWarm, the training of denoisers, and what they cost."""
