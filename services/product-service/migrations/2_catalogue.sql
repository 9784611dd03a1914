INSERT INTO products (id, name, price_cents) VALUES
    ('beans', 'Coffee beans, 1 kg', 2190),
    ('espresso-machine', 'Espresso machine', 48900),
    ('filters', 'Paper filters, 100 pieces', 450),
    ('grinder', 'Coffee grinder', 12900),
    ('kettle', 'Gooseneck kettle', 6950),
    ('mug', 'Mug', 1200),
    ('press', 'French press', 3490),
    ('scale', 'Kitchen scale', 2590);
