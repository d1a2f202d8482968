"""How the candidates of a request are scored: by a model made ready for it when its version is loaded."""
