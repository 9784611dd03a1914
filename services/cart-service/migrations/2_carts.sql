INSERT INTO cart_items (user_id, product_id, quantity) VALUES
    ('alice', 'beans', 1),
    ('alice', 'mug', 2);
