-- Which product and how many. Its name and price are asked for when the cart is shown: both may change.
CREATE TABLE cart_items (
    user_id TEXT NOT NULL,
    product_id TEXT COLLATE "C" NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (user_id, product_id)
);
