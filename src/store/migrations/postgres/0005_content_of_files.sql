-- The blake3 of a file's bytes, in hexadecimal; NULL where it was uploaded before this column.
ALTER TABLE files ADD COLUMN blake3 TEXT;
