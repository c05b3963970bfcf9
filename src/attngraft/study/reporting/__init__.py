"""Write down what a study came to: a page, Markdown, LaTeX and figures."""
