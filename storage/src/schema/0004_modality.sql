-- Examples used to store their kind as the modality; now they store the word that rollouts use (`Modality` in vocabulary.rs).
UPDATE example SET modality = CASE modality
    WHEN 'word_problem' THEN 'text' WHEN 'instruction' THEN 'text'
    WHEN 'caption' THEN 'ask' WHEN 'scene' THEN 'ask' WHEN 'question' THEN 'ask'
    WHEN 'text_to_image' THEN 'draw' WHEN 'think_then_draw' THEN 'think_draw'
    ELSE modality END
WHERE modality IN ('word_problem', 'instruction', 'caption', 'scene', 'question', 'text_to_image', 'think_then_draw');
