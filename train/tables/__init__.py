"""Tables: columns of mixed types in, a generator of such columns out.

::

    sources   files → batches of rows                     values      a column → numbers and what is missing
    profile   batches → what each column holds            coding      numbers → codes, and back
    decide    profiles → each column's type, or a reason  mixture     codes → a mixture, by EM
    personal  names, mail, phone, identity numbers        generator   all of it as arrays; rows from latents

Shape suffixes of this package: N rows, D columns, K codes of a column, C components, S codes of all columns together,
B batch, Z latents, Y classes of the target.
"""
