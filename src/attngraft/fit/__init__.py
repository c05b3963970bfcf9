"""Training the papers' own networks with Lightning: ``attngraft fit``."""
