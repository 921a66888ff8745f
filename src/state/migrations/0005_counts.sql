-- What counts, lists and the eviction of images need without reading whole rows.

-- config.image_reference, which never changes.
ALTER TABLE container ADD COLUMN image_reference TEXT NOT NULL DEFAULT '';
-- Whether the container counts as running: model/life.rs decides, the writer keeps it.
ALTER TABLE container ADD COLUMN running INTEGER NOT NULL DEFAULT 0;

UPDATE container SET image_reference = coalesce(
    CASE WHEN json_valid(config) THEN json_extract(config, '$.image_reference') END, '');

-- As life::is_running had it when the column was added.
UPDATE container SET running = 1
WHERE starts > 0 AND CASE
    WHEN NOT json_valid(config) OR NOT json_valid(status) THEN 0
    WHEN json_extract(status, '$.run.start') IS NOT starts
        OR json_extract(status, '$.run.phase') = 'refused' THEN cancelled < starts
    WHEN json_type(status, '$.run.phase.exited') IS NULL THEN 1
    WHEN remove_at IS NOT NULL OR cancelled >= starts THEN 0
    WHEN json_extract(status, '$.run.phase.exited.cause') = 'unknown'
        THEN json_extract(config, '$.function.unknown_outcome') = 'rerun'
            AND coalesce(json_extract(status, '$.reruns'), 0) < 3
    WHEN json_extract(status, '$.run.phase.exited.cause') IN ('cancelled', 'never_ran') THEN 0
    ELSE json_extract(status, '$.run.phase.exited.code') <> 0
        AND json_type(config, '$.restart.on_failure') IS NOT NULL
        AND (json_extract(config, '$.restart.on_failure.max') = 0
            OR json_extract(status, '$.restarts') < json_extract(config, '$.restart.on_failure.max'))
END;

CREATE INDEX container_image ON container (image_reference, removed, running);
CREATE INDEX container_running ON container (seq) WHERE running = 1 AND removed = 0;
CREATE INDEX image_id ON image (id, seq);
CREATE INDEX image_age ON image (created_at, seq);

-- Kept by triggers, so that no count reads the rows that it counts.
CREATE TABLE object_count (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- All rows, those being removed included.
    containers INTEGER NOT NULL,
    -- Containers that clients can see, and those of them that are running.
    visible    INTEGER NOT NULL,
    running    INTEGER NOT NULL,
    images     INTEGER NOT NULL
) STRICT;

INSERT INTO object_count
SELECT 1, count(*), count(*) FILTER (WHERE removed IS NOT 1),
    count(*) FILTER (WHERE removed IS NOT 1 AND running IS 1), (SELECT count(*) FROM image)
FROM container;

CREATE TRIGGER container_inserted AFTER INSERT ON container BEGIN
    UPDATE object_count SET containers = containers + 1, visible = visible + (NEW.removed IS NOT 1),
        running = running + (NEW.removed IS NOT 1 AND NEW.running IS 1);
END;

CREATE TRIGGER container_deleted AFTER DELETE ON container BEGIN
    UPDATE object_count SET containers = containers - 1, visible = visible - (OLD.removed IS NOT 1),
        running = running - (OLD.removed IS NOT 1 AND OLD.running IS 1);
END;

CREATE TRIGGER container_updated AFTER UPDATE OF removed, running ON container
WHEN OLD.removed IS NOT NEW.removed OR OLD.running IS NOT NEW.running BEGIN
    UPDATE object_count SET visible = visible + (NEW.removed IS NOT 1) - (OLD.removed IS NOT 1),
        running = running + (NEW.removed IS NOT 1 AND NEW.running IS 1)
            - (OLD.removed IS NOT 1 AND OLD.running IS 1);
END;

CREATE TRIGGER image_inserted AFTER INSERT ON image BEGIN
    UPDATE object_count SET images = images + 1;
END;

CREATE TRIGGER image_deleted AFTER DELETE ON image BEGIN
    UPDATE object_count SET images = images - 1;
END;
