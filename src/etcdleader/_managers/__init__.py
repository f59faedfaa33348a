"""The leader managers: campaigns, terms, callbacks, and what is reported of them."""
