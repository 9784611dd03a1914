CREATE TABLE products (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL,
    price_cents BIGINT NOT NULL CHECK (price_cents > 0)
);
