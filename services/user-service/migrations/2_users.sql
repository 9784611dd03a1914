INSERT INTO users (id, name, email) VALUES
    ('alice', 'Alice', 'alice@example.com'),
    ('bob', 'Bob', 'bob@example.com'),
    ('carol', 'Carol', 'carol@example.com'),
    ('dave', 'Dave', 'dave@example.com'),
    ('erin', 'Erin', 'erin@example.com');
