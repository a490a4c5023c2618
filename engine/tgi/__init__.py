"""TGI's and LoRAX's generate API, translated to `/v1/completions` and back."""
