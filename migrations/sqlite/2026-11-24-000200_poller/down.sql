DROP TABLE events_poller;
