"""The front door's configuration: `envoy.yaml` is a template, `render` fills it in from serai.toml."""
