-- Whether this is still the database that its daemon left: see mark.rs.

-- How many commits it has had since this column is there.
ALTER TABLE instance ADD COLUMN commits INTEGER NOT NULL DEFAULT 0;
-- Its daemon has closed it: nothing can be missing.
ALTER TABLE instance ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;
-- Why it may have lost commits; until it is adopted.
ALTER TABLE instance ADD COLUMN doubt TEXT;
