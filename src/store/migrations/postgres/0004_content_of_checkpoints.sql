-- The blake3 of the list of its files' hashes, in hexadecimal; NULL where it is no policy, or was
-- written before this column.
ALTER TABLE job_checkpoints ADD COLUMN content TEXT;
