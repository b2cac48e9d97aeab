"""Messages that start runs: what a queue's message, a notification of S3 and an e-mail become."""
