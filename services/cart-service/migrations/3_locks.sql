-- One row a user who ever added something: whoever adds locks it, so that counting what is in the cart and adding to
-- it are one step.
CREATE TABLE carts (
    user_id TEXT PRIMARY KEY
);
