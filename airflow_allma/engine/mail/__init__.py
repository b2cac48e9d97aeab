"""E-mails: addresses, messages, and the two ways to send them."""
