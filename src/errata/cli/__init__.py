"""The command line: `errata.cli.app` is where it starts."""
