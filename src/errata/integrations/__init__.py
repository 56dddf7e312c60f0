"""Bridges to other packages. Nothing else imports them at module level."""
