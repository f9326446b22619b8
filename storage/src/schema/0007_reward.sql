-- A rollout stores the right answer and the picture that was asked about; v_reward has a row for each part of its reward. An
-- example stores its place in the source. The lineage says what kind of sequence was trained on.
ALTER TABLE sample ADD COLUMN reference TEXT NOT NULL DEFAULT '';
ALTER TABLE sample ADD COLUMN asked TEXT;
ALTER TABLE example ADD COLUMN place TEXT NOT NULL DEFAULT '';
DROP VIEW v_rollout;
CREATE VIEW v_rollout AS SELECT id AS sample, run, step, grp AS "group", number, example, modality, weights, prompt, text,
    picture, parts, total, advantage, trained, reference, asked FROM sample;
CREATE VIEW v_reward AS SELECT sample.id AS sample, sample.run, sample.step, sample.grp AS "group", sample.number, sample.modality,
    json_extract(part.value, '$[0]') AS name, json_extract(part.value, '$[1]') AS value,
    json_extract(part.value, '$[2]') AS weight
    FROM sample, json_each(sample.parts) AS part;
DROP VIEW v_lineage;
CREATE VIEW v_lineage AS SELECT train_use.run, train_use.step, train_use.stage, train_use.subject,
    coalesce(example.source, CASE WHEN sample.id IS NOT NULL THEN 'rollout' END, CASE WHEN trace.id IS NOT NULL THEN 'reasoner' END) AS source,
    coalesce(example.generator, trace.generator, 'weights:' || sample.weights) AS generator,
    coalesce(example.verifier, CASE WHEN sample.id IS NOT NULL THEN 'rewards' END, CASE WHEN trace.id IS NOT NULL THEN 'trace' END) AS verifier,
    coalesce(example.score, sample.total, 1.0) AS score,
    coalesce(example.place, '') AS place,
    coalesce(example.text, sample.prompt || ' ⇒ ' || sample.text, trace.prompt || ' ⇒ ' || trace.text) AS text,
    coalesce(example.picture, sample.picture, sample.asked) AS picture
    FROM train_use LEFT JOIN example ON example.id = train_use.subject
    LEFT JOIN sample ON sample.id = train_use.subject LEFT JOIN trace ON trace.id = train_use.subject;
