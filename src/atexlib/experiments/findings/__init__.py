"""What the results say: claims, verdicts, tables for the pages, and what is stale."""
