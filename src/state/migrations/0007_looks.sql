-- The last look at a function without a container: JSON, NULL if nobody has looked yet. A pass of cron goes on from it.
ALTER TABLE sighting ADD COLUMN look TEXT;
-- The sweep notes functions without a container whose names come after this one.
ALTER TABLE instance ADD COLUMN orphans_after TEXT;
