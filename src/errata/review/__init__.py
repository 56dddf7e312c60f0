"""People recheck suspects: verdicts, the queue, the page, and how many errors are left."""
