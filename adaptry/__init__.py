"""The `adaptry` command: nouns, then verbs, over the REST API; `serve` and `demo` start servers."""
