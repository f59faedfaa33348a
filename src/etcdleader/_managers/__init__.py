"""The leader managers: campaigns, terms, callbacks and reports."""
