CREATE TABLE orders (
    id TEXT COLLATE "C" PRIMARY KEY,
    user_id TEXT NOT NULL,
    total_cents BIGINT NOT NULL,
    placed_at TEXT NOT NULL
);

CREATE INDEX orders_of_user ON orders (user_id, id);

-- Name and price as they were when the order was placed.
CREATE TABLE order_lines (
    order_id TEXT NOT NULL REFERENCES orders (id),
    position BIGINT NOT NULL,
    product_id TEXT NOT NULL,
    name TEXT NOT NULL,
    price_cents BIGINT NOT NULL,
    quantity BIGINT NOT NULL,
    PRIMARY KEY (order_id, position)
);
