-- Where in AWS this database's functions and claims are: set once, with the first claim; NULL before. See binding.rs.
ALTER TABLE instance ADD COLUMN function_prefix TEXT;
ALTER TABLE instance ADD COLUMN region TEXT;
ALTER TABLE instance ADD COLUMN account TEXT;
ALTER TABLE instance ADD COLUMN claims_log_group TEXT;
