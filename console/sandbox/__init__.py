"""A local tracker that checks events as the tracker's page says, and what else a first try on one machine needs."""
