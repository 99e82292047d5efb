"""Who spoke when: community-1, step by step."""
