-- The weights that were last set by hand, and the profile's version since: choices made from then on
-- count. NULL where weights were learned before this column: then nothing was held beforehand.
ALTER TABLE profiles ADD COLUMN stated_weights TEXT;
ALTER TABLE profiles ADD COLUMN stated_version BIGINT NOT NULL DEFAULT 0;
UPDATE profiles SET stated_weights = weights
    WHERE id NOT IN (SELECT profile FROM comparisons);
-- The profile's version that a choice led to.
ALTER TABLE comparisons ADD COLUMN profile_version BIGINT NOT NULL DEFAULT 0;
