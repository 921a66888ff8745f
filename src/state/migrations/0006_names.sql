-- Names of the containers that clients see, those whose removal cannot be read included: container_name, which keeps names
-- unique, leaves the latter out.
CREATE INDEX container_shown_name ON container (name) WHERE removed IS NOT 1;
