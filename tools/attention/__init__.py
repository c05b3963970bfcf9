"""What ``tools/attention_page.py`` makes the pages of attention from: arrays, numbers, figures, formulas and texts."""
